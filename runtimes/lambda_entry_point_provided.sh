#!/bin/bash
# Runs a custom runtime's bootstrap under the runtime interface emulator and reports the signals that come.
#
# Kubernetes signals a container's first process, which is this shell. It prints the signal's name and stays, so that the
# task in progress finishes; the agent beside this container then ends aws-lambda-rie itself.

if [ "$#" -ne 1 ]; then
    echo "$0: exactly one argument is needed, the handler's name; got $#" >&2
    exit 142
fi
export _HANDLER="$1"

for signal in TERM INT HUP QUIT ALRM; do
    # shellcheck disable=SC2064 # the name is to be expanded now
    trap "echo SIG$signal; signalled=yes" "$signal"
done

# A trap runs at once only while the shell waits for a child in the background. Job control, on for this one start, leaves
# the child the default SIGINT and SIGQUIT; a shell otherwise makes its background children ignore them, and the
# handler's own children with them.
set -m
/usr/local/bin/aws-lambda-rie /var/task/bootstrap.sh &
emulator=$!
set +m

# A signal interrupts `wait`, which then gives the signal's number. bash keeps a child's status, so waiting once more
# after a signal always ends with the emulator's own.
signalled=yes
status=0
while [ -n "$signalled" ]; do
    signalled=
    wait "$emulator"
    status=$?
done
exit "$status"
