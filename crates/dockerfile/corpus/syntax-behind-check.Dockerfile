# check=skip=all
# syntax={{docker/dockerfile:1}}
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY f /f
