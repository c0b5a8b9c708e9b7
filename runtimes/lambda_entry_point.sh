#!/bin/sh
# Starts the base image's own entry point with the handler's name, and shields it from SIGTERM.
#
# Kubernetes sends SIGTERM to a container's first process when it takes a pod down. The task in progress has to finish:
# the agent beside this container then ends the worker itself, by a SIGTERM straight to aws-lambda-rie. So this shell
# ignores the signal and stays the first process. Handing its place over by `exec` would not do: aws-lambda-rie installs
# a SIGTERM handler of its own, ignored or not, and would shut down in the middle of the task.
trap '' TERM

/lambda-entrypoint.sh "$@"
exit "$?"
