#syntax = {{docker/dockerfile@}}
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY f /f
