"""Django's own pages."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path


def home(request: HttpRequest) -> HttpResponse:
    """Says who answers."""
    return HttpResponse("Django", content_type="text/plain")


urlpatterns = [path("", home)]
