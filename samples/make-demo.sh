#!/bin/bash
# Makes samples/demo.pvm and samples/demo.sha256 anew.
#
# The disk holds a real ext4 file system, made by mkfs.ext4 and changed by debugfs as a guest would change it between
# snapshots. Everything that would differ from run to run (UUIDs, hash seeds, times, owners) is fixed, so that the same version
# of e2fsprogs makes the same bytes. Needs e2fsprogs and the .NET SDK.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C TZ=UTC
umask 022

clean=20240301090000
updated=20240308183000
now=20240315120000

# The times that debugfs sets are read in UTC; mkfs.ext4 takes its clock from this variable.
E2FSPROGS_FAKE_TIME=$(date -d '2024-03-01 09:00:00' +%s)
export E2FSPROGS_FAKE_TIME

# change IMAGE TIME < COMMANDS: lets debugfs change the file system at that time.
change() {
    { echo "set_current_time $2"; cat; } > "$work/commands"
    debugfs -w -f "$work/commands" "$1" > "$work/log" 2>&1
    # debugfs goes on after an error and exits with 0; it must have said nothing but its name and the commands.
    if grep -v -e '^debugfs' -e '^Setting current time' -e '^Allocated inode' -e '^$' "$work/log"; then
        echo "debugfs failed on $1" >&2
        exit 1
    fi
}

# stamp PATH TIME: commands that give a file fixed times and the owner root.
stamp() {
    local field
    for field in atime ctime mtime crtime; do
        echo "set_inode_field $1 $field $2"
        echo "set_inode_field $1 ${field}_extra 0"
    done
    echo "set_inode_field $1 uid 0"
    echo "set_inode_field $1 gid 0"
}

# check IMAGE: the file system must be clean at every snapshot.
check() {
    e2fsck -fn "$1" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}

# The clean install.
tree=$work/tree
mkdir -p "$tree/etc" "$tree/docs" "$tree/var/cache"
echo 'Hello from the clean install.' > "$tree/hello.txt"
echo 'NAME="Demo" VERSION="1.0"' > "$tree/etc/release"
echo 'A disk with two snapshots; hello.txt tells which one you are reading.' > "$tree/docs/readme.txt"
seq 1 20000 > "$tree/docs/numbers.txt"
seq 1000000 1010000 > "$tree/var/cache/old.dat"

truncate -s 16M "$work/clean.raw"
mkfs.ext4 -q -F -b 1024 -N 256 -L demo -U 2b7e1516-28ae-4d2a-8bf7-158809cf4f3c \
    -E hash_seed=3243f6a8-885a-408d-b131-98a2e0370734,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard \
    -d "$tree" "$work/clean.raw"
{
    for path in / /lost+found /etc /docs /var /var/cache /hello.txt /etc/release /docs/readme.txt /docs/numbers.txt /var/cache/old.dat; do
        stamp "$path" "$clean"
    done
} | change "$work/clean.raw" "$clean"
check "$work/clean.raw"

# The first update: two files say something new, one is added.
cp --sparse=always "$work/clean.raw" "$work/updated.raw"
echo 'Hello after the first update.' > "$work/hello.txt"
echo 'NAME="Demo" VERSION="1.1"' > "$work/release"
seq -f 'Change %g of the first update.' 1 2000 > "$work/changes.txt"
{
    echo "rm /hello.txt"
    echo "write $work/hello.txt hello.txt"
    echo "rm /etc/release"
    echo "write $work/release etc/release"
    echo "write $work/changes.txt docs/changes.txt"
    for path in / /etc /docs /hello.txt /etc/release /docs/changes.txt; do
        stamp "$path" "$updated"
    done
} | change "$work/updated.raw" "$updated"
check "$work/updated.raw"

# Since then: hello.txt once more, and the cache is gone.
cp --sparse=always "$work/updated.raw" "$work/current.raw"
echo 'Hello from the current state.' > "$work/hello.txt"
{
    echo "rm /hello.txt"
    echo "write $work/hello.txt hello.txt"
    echo "rm /var/cache/old.dat"
    for path in / /var/cache /hello.txt; do
        stamp "$path" "$now"
    done
} | change "$work/current.raw" "$now"
check "$work/current.raw"

rm -rf "$here/demo.pvm"
dotnet run -c Release --project "$here/MakeDemo" -- "$work/clean.raw" "$work/updated.raw" "$work/current.raw" "$here"
{
    for state in "clean.raw:Clean install" "updated.raw:After first update" "current.raw:current"; do
        printf '%s  %s\n' "$(sha256sum < "$work/${state%%:*}" | cut -d' ' -f1)" "${state#*:}"
    done
} > "$here/demo.sha256"
cat "$here/demo.sha256"
