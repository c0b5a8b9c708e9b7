ARG HOST
ARG TAG=1
FROM {{host}}/base:${TAG}
COPY f /f
