ARG BASE_IMAGE
FROM {{tools:1}} AS tools
FROM ${BASE_IMAGE}
COPY \
  --from=tools /content /content
