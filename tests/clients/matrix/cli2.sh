#!/usr/bin/env bash
# Debian's AWS CLI, version 2. One from before AWS_ENDPOINT_URL_STS takes --endpoint-url.
set -u
call() { /usr/bin/aws --endpoint-url "$BREVET_ENDPOINT" --output text "$@" 2>&1; }
result() {
  case "$1" in
    *"An error occurred ("*) sed -n 's/.*An error occurred (\([A-Za-z]*\)).*/\1/p' <<<"$1" ;;
    *arn:aws:*) echo ok ;;
    *) tr -s '[:space:]' ' ' <<<"$1" | cut -c1-200 ;;
  esac
}

printf 'version\t%s\n' "$PACKAGE_VERSION"
printf 'GetCallerIdentity\t%s\n' "$(result "$(call sts get-caller-identity)")"
assume=(sts assume-role --role-session-name cli --role-arn)
keys=$(call "${assume[@]}" "$BREVET_ROLE" --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]')
read -r id secret token <<<"$keys"
printf 'AssumeRole\t%s\n' "$(result \
  "$(AWS_ACCESS_KEY_ID=$id AWS_SECRET_ACCESS_KEY=$secret AWS_SESSION_TOKEN=${token:-} call sts get-caller-identity)")"
printf 'AssumeRole, denied\t%s\n' "$(result "$(call "${assume[@]}" "$BREVET_DENIED_ROLE")")"
web=(sts assume-role-with-web-identity --role-session-name cli --role-arn "$BREVET_WEB_ROLE")
printf 'AssumeRoleWithWebIdentity\t%s\n' "$(result "$(call "${web[@]}" --web-identity-token "$BREVET_WEB_TOKEN")")"
printf 'organizations describe-organization\t%s\n' "$(result "$(call organizations describe-organization)")"
