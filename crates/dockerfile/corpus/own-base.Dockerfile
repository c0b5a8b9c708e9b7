FROM {{base:1}} AS built
COPY f /f
