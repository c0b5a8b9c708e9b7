# target: one
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS one
COPY f /f
FROM {{tools:1}} AS two
