FROM {{host}}/base:${BUILDARCH}
