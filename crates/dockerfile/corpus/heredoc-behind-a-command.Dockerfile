ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN cat <<EOF >/o
FROM nothing:1
EOF
COPY --from={{tools:1}} /content /content
