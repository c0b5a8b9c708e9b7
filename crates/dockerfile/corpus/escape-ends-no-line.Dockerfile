# escape=`
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ENV PLACE=C:\
COPY --from={{tools:1}} /content /content
