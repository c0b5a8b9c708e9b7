ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN <<EOF
FROM nothing:1
COPY --from=nothing:1 /a /b
EOF
