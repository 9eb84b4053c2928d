# What test_deploy.py runs below a systemd: the commands of the pages, in files beside this one, and what came of them.
set -e
trap 'systemctl --no-pager --full status brevet brevet-agent; systemctl show brevet brevet-agent --property=ExecMainStatus,ExecMainCode,Result,StatusErrno' ERR
export PATH="/steps/stub:$PATH"
. ./broker.install
. ./broker.import
. ./broker.health
systemctl reload brevet
for step in step.*; do . "./$step"; done

# ask LINE HEADER: as SDKs ask the instance metadata service.
ask() {
    exec 3<>/dev/tcp/169.254.169.254/80
    printf '%s HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n%s\r\n\r\n' "$1" "$2" >&3
    tr -d '\r' <&3 | sed '1,/^$/d'
    exec 3>&-
}
keys() {
    token="$(ask 'PUT /latest/api/token' 'X-aws-ec2-metadata-token-ttl-seconds: 60')"
    ask 'GET /latest/meta-data/iam/security-credentials/App' "X-aws-ec2-metadata-token: $token"
}
of() { systemctl show --property="$1" --value "$2"; }
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(of MainPID "$2")/status"; }

echo "addresses: $(ip -oneline address show dev lo | grep -oE '169\.254\.[0-9.]+/32|fd00:ec2::[0-9]+/128' | paste -sd ' ')"
echo "before: $(keys | tr -d '\n')"
systemctl restart brevet-agent
echo "after: $(keys | tr -d '\n')"
# The same program as two units, one of which the agent's configuration knows.
for unit in reporter another; do
    command='/usr/local/bin/brevet credential-process --agent-socket /run/brevet-agent/credentials.sock --role arn:aws:iam::111122223333:role/App'
    printf '[Service]\nType=oneshot\nDynamicUser=yes\nExecStart=%s\n' "$command" >"/etc/systemd/system/$unit.service"
    mkdir "/etc/systemd/system/$unit.service.d"
    printf '[Service]\nStandardOutput=file:/%s\n' "$unit" >"/etc/systemd/system/$unit.service.d/output.conf"
done
systemctl daemon-reload
systemctl start reporter
echo "unit: $(tr -d '\n' </reporter)"
systemctl start another || echo "another unit: refused"
for unit in brevet brevet-agent; do
    echo "$unit state: $(of ActiveState $unit) $(systemctl is-enabled $unit) $(of NRestarts $unit)"
    echo "$unit user: $(stat --format=%U "/proc/$(of MainPID $unit)")"
    echo "$unit capabilities: $(status CapEff $unit) $(status CapBnd $unit)"
    echo "$unit limits: $(status Seccomp $unit) $(status NoNewPrivs $unit)"
    echo "$unit folder: $(stat --format='%U %a' "/var/lib/$unit")"
    echo "$unit open files: $(find "/var/lib/$unit" ! -user $unit -o -type f -perm /077)"
done
echo "audit: $(paste -s /var/lib/brevet-agent/agent-audit.jsonl)"
echo done
