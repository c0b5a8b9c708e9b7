ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY --from={{tools@}} /content /content
