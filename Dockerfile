FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=aigov.settings
WORKDIR /srv/aigov
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
RUN useradd --system --user-group aigov && mkdir .data && chown aigov: .data
USER aigov
EXPOSE 8000
CMD ["uvicorn", "aigov.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "on", "--no-access-log", \
     "--no-server-header", "--timeout-keep-alive", "75", "--timeout-graceful-shutdown", "60"]
