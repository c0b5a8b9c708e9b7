ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY \
  # a comment

  --from={{tools:1}} \
# another
  /content /content
