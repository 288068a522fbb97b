#!/bin/bash
# A mount to play with: makes one, takes the first steps on it, and leaves it mounted.
#   examples/play.sh [DIR]       default ~/spool; the messages are kept in DIR.data
set -euo pipefail
spoolfs=$(realpath "$(command -v "${SPOOLFS:-spoolfs}")")
dir=${1:-$HOME/spool}
show() { printf '\n$ %s\n' "$1"; (eval "$1"); }

if ! mountpoint -q "$dir"; then
	"$spoolfs" mount -d "$dir.data" "$dir"
fi
cd "$dir"
[ -d orders ] || show 'mkdir orders                         # a topic'
show 'echo "book 12" >> orders/0           # a message'
show 'seq -f "pen %g" 3 | tee -a orders/0 >/dev/null'
show 'cat orders/0                         # all of them'
show 'tail -n 1 orders/0                   # the newest'
show 'grep -c pen orders/0'
cat <<END

$dir stays mounted. Try:
  tail -f $dir/orders/0              and, elsewhere:  echo hello >> $dir/orders/0
  cat $dir/orders/.config            the topic's properties
  $spoolfs umount $dir
END
