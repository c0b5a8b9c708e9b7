ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN --mount=type=bind,from={{tools:1}},target=/t true
