# syntax={{other/language@}}
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY f /f
