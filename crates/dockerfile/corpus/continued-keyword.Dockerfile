ARG BASE_IMAGE
FR\
OM {{tools:1}} AS tools
FROM ${BASE_IMAGE}
COPY --from=tools /content /content
