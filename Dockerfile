# Both programs, static, and nothing else: no shell, no libraries, no root.
# The build context holds the binaries; `make image` makes it.
FROM scratch
COPY operator replica /usr/local/bin/
ENV PATH=/usr/local/bin
USER 65532:65532
