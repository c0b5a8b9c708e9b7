ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS one
ONBUILD ADD {{http}}/one /one
FROM one
COPY f /f
