ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ADD {{http}}/one /one
