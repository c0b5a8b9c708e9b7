# syntax={{docker/dockerfile@}}
# escape=`
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN true `
  && true
