#!/bin/sh
# Measures the artifacts that are packed below: sh FILE [--out RESULTS] [--check] [--warm]
# It brings Python and the runtimes along, for 64-bit ARM Linux and Android; they are unpacked beside
# this file, and removed when the results are written.
umask 077
case $0 in */*) dir=${0%/*} ;; *) dir=. ;; esac
dir=$(cd "$dir" && pwd) || exit 1
file=$dir/${0##*/}
place=$dir/edgese-bundle-@DIGEST16@
fail() { echo "error: $*" >&2; exit 1; }
machine=$(uname -m)
# "any" where it brings an emulator's command along.
case @MACHINE@ in
any | "$machine") ;;
*) fail "this was made for @MACHINE@, and this machine is $machine." ;;
esac
if [ "$(cat "$place/complete" 2>/dev/null)" != @DIGEST@ ]; then
    [ "$(($(wc -c <"$file")))" -eq @SIZE@ ] || fail "$file is truncated; copy it again."
    if command -v sha256sum >/dev/null; then
        found=$(tail -c +@BODY@ "$file" | sha256sum)
        [ "${found%% *}" = @DIGEST@ ] || fail "$file is damaged; copy it again."
    fi
    rm -rf "$place"
    mkdir "$place" || fail "a folder beside $file cannot be made."
    tail -c +@BODY@ "$file" | tar -xf - -C "$place" || fail "unpacking failed."
    { printf '#!%s\n' "$(command -v sh)" && cat "$place/start"; } >"$place/python"
    chmod 700 "$place/python" "$place/root/@PYTHON@" || fail "$place/python cannot be made."
    printf '%s\n' @DIGEST@ >"$place/complete"
fi
PYTHONDONTWRITEBYTECODE=1 "$place/python" "$place/bundle.pyz" --out "$file@SUFFIX@" "$@"
code=$?
if [ $code -eq 0 ]; then
    rm -rf "$place"
else
    echo "What was unpacked is kept for the next time: $place" >&2
fi
exit $code
