ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN --mount=From={{tools@}},target=/t true
