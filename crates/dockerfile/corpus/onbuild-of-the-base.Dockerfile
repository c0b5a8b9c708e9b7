FROM {{triggers@}}
COPY f /f
