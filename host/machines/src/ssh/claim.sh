# Makes the folder ours and empty.
clean
mkdir -p "$dir/bin"
printf '%s' "$owner" >"$dir/owner"
