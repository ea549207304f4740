# The decision service as an image. It listens on the loopback address alone: in a pod, or a shared network namespace, it
# serves its neighbours. Mount a policy at /policies. Facts come from a store: PostgreSQL, which BYLAW_DATABASE_URL names,
# or an SQLite file in the volume, which is made and filled first:
#
#   docker run -v store:/var/lib/bylaw bylaw migrate up
#   docker run -v store:/var/lib/bylaw -v ./policies/studio:/policies bylaw seed /policies/facts.yaml
#   docker run -v store:/var/lib/bylaw -v ./policies/studio:/policies --network container:NEIGHBOUR bylaw
#
# `bylaw admin` in its place is the administration service, on 127.0.0.1:8190; its health is asked there (deploy/).

FROM python:3.12-slim AS build

WORKDIR /src
RUN python -m venv --without-pip /opt/bylaw

# The pinned packages first: they change seldom, so this layer is kept.
COPY requirements.txt .
RUN pip --python /opt/bylaw/bin/python install --quiet --no-cache-dir -r requirements.txt

# What comes along says .dockerignore. The build backend has done its work after this, and stays behind.
COPY . .
RUN pip --python /opt/bylaw/bin/python install --quiet --no-cache-dir --no-deps --no-build-isolation . \
 && pip --python /opt/bylaw/bin/python uninstall --quiet --yes setuptools


FROM python:3.12-slim

LABEL org.opencontainers.image.title="bylaw" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/bylaw /opt/bylaw
RUN install -d -o 10001 -g 10001 /var/lib/bylaw && install -d /policies

ENV PATH=/opt/bylaw/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BYLAW_POLICIES=/policies

# A number, so that a cluster can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/bylaw
VOLUME /var/lib/bylaw
EXPOSE 8180

# Without a proxy, whatever the environment says: the question is about this container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8180/health', timeout=2).close()"]

ENTRYPOINT ["bylaw"]
CMD ["serve"]
