package node

import (
	"fmt"
	"os"
	"path/filepath"
)

// imageGate is the gate of a task with an image: in a mount namespace of its own it builds a root in a tmpfs from the host's
// top-level entries, lays the entries of the image's directory over them, and becomes the command in there, as the task's user.
const imageGate = `set -e
read -r go <&3 || exit 125; exec 3<&-
root=$1 dir=$2 who=$3 box=$4; shift 4
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
lay() {
	to=$root/${1##*/}
	if [ -L "$1" ]; then rm -f "$to"; cp -P "$1" "$to"
	elif [ -d "$1" ]; then [ -d "$to" ] || { rm -f "$to"; mkdir "$to"; }; mount --rbind "$1" "$to"
	elif [ -e "$1" ]; then [ -e "$to" ] || : >"$to"; mount --bind "$1" "$to"
	fi
}
for e in /* /.[!.]*; do lay "$e"; done
for e in "$dir"/* "$dir"/.[!.]*; do lay "$e"; done
exec chroot --userspec="$who" "$root" /bin/sh -c 'cd "$1" && shift && exec "$@"' cd "$box" "$@"`

// imageCommand makes the arguments of /bin/sh that run argv inside an image.
func (n *Node) imageCommand(t *task, who *identity, argv []string) ([]string, error) {
	dir, ok := n.o.Images[t.Image]
	if !ok {
		return nil, fmt.Errorf("image %q: the development scheduler runs commands only, there is no Docker here; map the image to a directory with --map-image %s=DIR", t.Image, t.Image)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("image %q: mount namespaces need root", t.Image)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("image %q: %w", t.Image, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("image %q: %s is not a directory", t.Image, dir)
	}
	root := filepath.Join(n.o.Dir, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("image %q: %w", t.Image, err)
	}
	user := "0:0"
	if who != nil {
		user = fmt.Sprintf("%d:%d", who.uid, who.gid)
	}
	return append([]string{"-c", imageGate, "gate", root, dir, user, t.sandbox}, argv...), nil
}
