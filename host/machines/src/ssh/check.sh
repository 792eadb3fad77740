# Looks whether an agent can live here; changes nothing.
[ "$(uname -s)" = Linux ] || fail "the machine runs $(uname -s), and agents need Linux"
[ "$(uname -m)" = "$machine" ] || fail "the machine is $(uname -m), and the agent's program is for $machine; set \`agent_binary\` to one for it"
for tool in find mkdir readlink setsid sha256sum sleep; do
    command -v "$tool" >/dev/null || fail "\`$tool\` is missing on the machine"
done
case "$(readlink -f "$HOME")/" in
"$dir"/*) fail "$dir holds the home of $(id -un); set another \`dir\`" ;;
esac
if [ -d "$dir" ] && [ -n "$(ls -A "$dir")" ] && [ "$(cat "$dir/owner" 2>/dev/null)" != "$owner" ]; then
    fail "$dir is there already and not ours; empty it, or set another \`dir\`"
fi
echo "$(uname -sr), $(uname -m), user $(id -un), $(df -Pk / | tail -n 1 | tr -s ' ' | cut -d' ' -f4) KiB free"
