ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ADD --checksum={{sum}} {{http}}/one /one
