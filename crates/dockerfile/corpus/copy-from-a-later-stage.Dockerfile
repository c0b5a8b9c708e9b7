ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS one
COPY --from=two /f /g
FROM scratch AS two
COPY f /f
FROM one
