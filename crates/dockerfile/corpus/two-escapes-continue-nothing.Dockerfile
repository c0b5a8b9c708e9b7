ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN echo a \\
COPY --from={{tools:1}} /content /content
