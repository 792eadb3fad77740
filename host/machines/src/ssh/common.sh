# Functions of every script that runs on a machine. $dir and $owner are set before.
set -eu
umask 077

fail() {
    echo "$*" >&2
    exit 1
}

# Processes that run in the folder or from it: the agent, what keeps it running, and its nodes.
ours() {
    for process in /proc/[0-9]*; do
        exe=$(readlink "$process/exe" 2>/dev/null) || exe=
        cwd=$(readlink "$process/cwd" 2>/dev/null) || cwd=
        case "$exe" in "$dir"/*) echo "${process#/proc/}"; continue ;; esac
        case "$cwd" in "$dir" | "$dir"/*) echo "${process#/proc/}" ;; esac
    done
}

# Waits up to $1 seconds until nothing of ours runs.
ended() {
    left=$1
    while [ -n "$(ours)" ]; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 1
    done
}

has_systemd() {
    [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]
}

# Ends what runs: first what would start the rest again.
stop_all() {
    if has_systemd && [ -e "/etc/systemd/system/$unit" ]; then
        systemctl disable --now "$unit" </dev/null
        rm -f "/etc/systemd/system/$unit"
        systemctl daemon-reload </dev/null
    fi
    for signal in TERM KILL; do
        pids=$(ours)
        [ -n "$pids" ] || return 0
        # One may have ended by itself since.
        kill -s "$signal" $pids 2>/dev/null || :
        ended 20 && return 0
    done
    fail "these processes of $dir don't end: $(ours | tr '\n' ' ')"
}

# Takes away everything that an agent of ours was and has. Whose folder it is goes last, so that this can be done again.
clean() {
    [ -d "$dir" ] || return 0
    dir=$(readlink -f "$dir")
    if [ ! -e "$dir/owner" ]; then
        [ -z "$(ls -A "$dir")" ] || fail "$dir is there already and not ours; empty it, or set another \`dir\`"
        return 0
    fi
    [ "$(cat "$dir/owner")" = "$owner" ] || fail "$dir belongs to another installation's agent; remove it there, or set another \`dir\`"
    stop_all
    find "$dir" -mindepth 1 -not -path "$dir/owner" -delete
    rm -f "$dir/owner"
}
