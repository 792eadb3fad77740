# Leaves nothing of ours. What is another's is left alone: then nothing of this node was ever here.
if [ -d "$dir" ]; then
    if [ -e "$dir/owner" ] && [ "$(cat "$dir/owner")" != "$owner" ]; then
        echo "$dir belongs to another installation's agent and was left alone"
        exit 0
    fi
    if [ -e "$dir/owner" ]; then clean; fi
    # Kept when it holds what is not ours, or when its parent may not be written.
    rmdir "$dir" 2>/dev/null || :
fi
echo "nothing is left in $dir"
