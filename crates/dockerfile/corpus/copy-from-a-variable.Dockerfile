ARG TOOLS={{tools@}}
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG TOOLS
COPY --from=${TOOLS} /content /content
