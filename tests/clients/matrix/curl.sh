#!/usr/bin/env bash
# curl signs by itself: `--aws-sigv4`.
set -u
body="Version=2011-06-15"
call() { # KEY SECRET TOKEN PARAMETERS
  curl -sS --aws-sigv4 "aws:amz:$AWS_REGION:sts" --user "$1:$2" ${3:+-H "x-amz-security-token: $3"} \
    --data "$body&$4" "$BREVET_ENDPOINT/"
}
result() { case "$1" in *arn:aws:*) echo ok ;; *) tr -s '[:space:]' ' ' <<<"$1" | cut -c1-200 ;; esac; }
field() { sed -n "s:.*<$2>\(.*\)</$2>.*:\1:p" <<<"$1"; }

printf 'version\t%s\n' "$(curl --version | head -1 | cut -d' ' -f2)"
printf 'GetCallerIdentity\t%s\n' "$(result "$(call "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "" Action=GetCallerIdentity)")"
answer=$(call "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "" "Action=AssumeRole&RoleArn=$BREVET_ROLE&RoleSessionName=curl")
who=$(call "$(field "$answer" AccessKeyId)" "$(field "$answer" SecretAccessKey)" "$(field "$answer" SessionToken)" Action=GetCallerIdentity)
printf 'AssumeRole\t%s\n' "$(result "$who")"
denied=$(call "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "" "Action=AssumeRole&RoleArn=$BREVET_DENIED_ROLE&RoleSessionName=curl")
printf 'AssumeRole, denied\t%s\n' "$(field "$denied" Code)"
printf 'GetCallerIdentity, GET\t%s\n' "$(result "$(curl -sS --aws-sigv4 "aws:amz:$AWS_REGION:sts" \
  --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$BREVET_ENDPOINT/?Action=GetCallerIdentity&Version=2011-06-15")")"
