# This is a comment
# escape=`
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN true \
  && true
