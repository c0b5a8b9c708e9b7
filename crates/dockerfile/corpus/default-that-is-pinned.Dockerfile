ARG BASE_IMAGE
ARG TOOLS={{tools@}}
FROM ${TOOLS} AS tools
FROM ${BASE_IMAGE}
COPY --from=tools /content /content
