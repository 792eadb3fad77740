# Starts the uploaded agent so that it outlives this session. The token is in no argument of anything: this script comes by
# the standard input, and so does what `cat` writes.
dir=$(readlink -f "$dir")
[ "$(sha256sum "$dir/bin/bellwether-agent" | cut -d' ' -f1)" = "$digest" ] || fail "the agent's program did not arrive whole"
chmod 700 "$dir/bin/bellwether-agent"
cat >"$dir/ca.pem" <<END
$ca
END
cat >"$dir/token" <<END
$token
END
cat >"$dir/run" <<END
#!/bin/sh
cd "$dir"
exec "$dir/bin/bellwether-agent" --state-dir "$dir/state" --gateway "$gateway" --ca-file "$dir/ca.pem" --token-file "$dir/token" --name "$name"
END
cat >"$dir/keep-running" <<'END'
#!/bin/sh
# Starts the agent again whenever it ends.
while :; do
    if [ -e agent.log ] && [ "$(wc -c <agent.log)" -gt 10485760 ]; then mv agent.log agent.log.old; fi
    ./run >>agent.log 2>&1 || :
    sleep 2
done
END
chmod 700 "$dir/run" "$dir/keep-running"
if has_systemd; then
    cat >"/etc/systemd/system/$unit" <<END
[Unit]
Description=Bellwether agent $name
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=$dir/run
Restart=always
RestartSec=2
# The nodes outlive their agent.
KillMode=process

[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload </dev/null
    systemctl enable --now "$unit" </dev/null
else
    (cd "$dir" && exec setsid ./keep-running </dev/null >/dev/null 2>&1) &
fi
# Enrolment is waited for elsewhere; here only for an agent that can't even start.
sleep 2
for pid in $(ours); do
    [ "$(readlink "/proc/$pid/exe")" != "$dir/bin/bellwether-agent" ] || exit 0
done
tail -n 20 "$dir/agent.log" 2>/dev/null || :
fail "the agent does not stay up"
