ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN cat <<-'ONE' 3<<"T W" >/o
	FROM nothing:1
	ONE
ADD nothing:1 /a
T W
COPY <<EOF f /dir/
FROM nothing:2
EOF
