ARG BASE_IMAGE
ARG TOOLS={{tools:1}}
FROM ${TOOLS} AS tools
FROM ${BASE_IMAGE}
COPY --from=tools /content /content
