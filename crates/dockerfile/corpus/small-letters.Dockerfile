arg BASE_IMAGE
from	{{tools:1}}	as Tools
from ${BASE_IMAGE}
copy --from=TOOLS /content /content
