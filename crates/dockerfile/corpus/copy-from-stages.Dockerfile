ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS One
FROM scratch AS two
COPY f /f
FROM one
COPY --from=TWO /f /g
COPY --from=1 /f /h
