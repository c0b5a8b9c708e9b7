ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY --from={{tools:1}} /content /content
