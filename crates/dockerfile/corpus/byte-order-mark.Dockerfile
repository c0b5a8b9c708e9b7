FROM {{tools:1}} AS tools
FROM {{base@}}
COPY --from=tools /content /content
