#!/bin/sh
# An engine that does what its fault says. What it "made" is the file `made`; every command is noted in the file $TF_VAR_log.
fault=$TF_VAR_fault
command=$1
echo "$fault $command" >>"$TF_VAR_log"

state() {
    if [ -e made ]; then
        echo '{"format_version":"1.0","values":{"root_module":{"resources":[{"address":"machine"}]}}}'
    else
        echo '{"format_version":"1.0"}'
    fi
}

case "$command" in
plan)
    if [ "$fault" = refuses ]; then
        echo "Error: no such server type" >&2
        exit 1
    fi
    echo plan >plan.bin
    echo "Plan: 1 to add."
    exit 2
    ;;
output) echo '{}' ;;
show)
    if [ "$fault" = babbles ]; then
        echo "hello"
        exit 0
    fi
    if [ "$fault" = swaps ]; then echo another >plan.bin; fi
    state
    ;;
apply)
    case "$fault" in
    hangs)
        : >made
        echo "Still creating..."
        trap 'echo "Interrupted with $TF_VAR_token$SECRET."; exit 1' INT
        while :; do sleep 0.1; done
        ;;
    half-creates | clings)
        : >made
        echo "Error: out of quota, said $SECRET" >&2
        exit 1
        ;;
    esac
    echo "Apply complete!"
    ;;
destroy)
    [ "$fault" = clings ] || rm -f made
    echo "Destroy complete!"
    ;;
esac
