FROM {{base@}} AS amd64
COPY f /f
FROM ${TARGETARCH:-{{tools:1}}}
