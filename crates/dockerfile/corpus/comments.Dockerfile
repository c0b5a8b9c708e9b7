ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# FROM {{tools:1}}
RUN true \
  # COPY --from={{tools:1}} /content /content
  && true
