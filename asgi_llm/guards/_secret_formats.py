"""The formats of providers' keys: a prefix, a length, an alphabet.

Each line is a name and an RE2 pattern. The names are those of who gives the keys out, or of what
they open. Source: the providers' documentation and the secret scanning pages of GitHub, 2025.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CHECKED_FORMATS", "FORMATS"]

FORMATS: Final[tuple[tuple[str, str], ...]] = tuple(
    (name, pattern)
    for name, _, pattern in (
        line.partition(" ")
        for line in r"""
openai \bsk-(?:proj|svcacct|admin)-[\w-]{20,}T3BlbkFJ[\w-]{20,}
openai \bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}\b
openai \bsk-(?:proj|svcacct|admin)-[\w-]{40,}
anthropic \bsk-ant-[a-z]{3,8}[0-9]{2}-[\w-]{80,}
openrouter \bsk-or-v1-[0-9a-f]{64}\b
langfuse \bsk-lf-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b
llm_key \bsk-[A-Za-z0-9][\w-]{30,}
groq \bgsk_[A-Za-z0-9]{52}\b
xai \bxai-[A-Za-z0-9]{80}\b
perplexity \bpplx-[A-Za-z0-9]{48}\b
replicate \br8_[A-Za-z0-9]{37}\b
fireworks \bfw_[A-Za-z0-9]{22,24}\b
hugging_face \b(?:hf|api_org)_[A-Za-z]{34}\b
nvidia \bnvapi-[\w-]{64}
elevenlabs \bsk_[0-9a-f]{48}\b
langsmith \blsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}\b
cerebras \bcsk-[a-z0-9]{48}\b
tavily \btvly-(?:dev-)?[A-Za-z0-9]{32}\b
pinecone \bpcsk_[A-Za-z0-9]{5,6}_[A-Za-z0-9]{63}\b
voyage \bpa-[\w-]{43}
aws_access_key \b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b
aws_bedrock \bABSK[A-Za-z0-9+/]{109,}={0,2}
google_api_key \bAIza[\w-]{35}
google_oauth_secret \bGOCSPX-[\w-]{28}
google_access_token \bya29\.[\w-]{40,}
azure_storage AccountKey=(?P<value>[A-Za-z0-9+/]{86}==)
azure_client_secret \b[\w~.]{3}[0-9]Q~[\w~.-]{31,34}
azure_sas [?&]sv=[0-9-]{10}[^\s"'<>]{0,}&sig=(?P<value>[A-Za-z0-9%+/]{43,}(?:%3D|=)?)
alibaba \bLTAI[A-Za-z0-9]{12,26}\b
digitalocean \bdo[opr]_v1_[0-9a-f]{64}\b
heroku \bHRKU-[\w-]{36,}
fly \bfo1_[\w-]{43}
netlify \bnfp_[A-Za-z0-9]{36}\b
supabase \bsb(?:p_[0-9a-f]{40}|_secret_[\w-]{31})\b
planetscale \bpscale_(?:tkn|pw|oauth)_[\w.=-]{32,}
neon \bnapi_[a-z0-9]{64}\b
databricks \bdapi[0-9a-f]{32}(?:-[0-9])?\b
cloudflare \bv1\.0-[0-9a-f]{24}-[0-9a-f]{146}\b
tailscale \btskey-(?:auth|api|client|scim|webhook)-[A-Za-z0-9]{8,24}-[A-Za-z0-9]{24,48}\b
github_fine_grained \bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b
gitlab \bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[\w-]{20,50}
bitbucket \bATCTT3x[\w=-]{150,}
atlassian \bATATT3[\w=-]{150,}
pypi \bpypi-AgE[\w-]{70,}
rubygems \brubygems_[0-9a-f]{48}\b
clojars \bCLOJARS_[a-z0-9]{60}\b
docker \bdckr_(?:pat|oat)_[\w-]{27,32}
terraform_cloud \b[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}
pulumi \bpul-[0-9a-f]{40}\b
vault \bhv[sb]\.[\w-]{90,}
vault \bhvs\.[A-Za-z0-9]{24}\b
doppler \bdp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}\b
prefect \bpn[ub]_[A-Za-z0-9]{36}\b
one_password \bops_eyJ[\w+/=-]{250,}
slack_token \bxox[abeoprs]-(?:[0-9A-Za-z]{1,14}-){1,4}[A-Za-z0-9]{10,}\b
slack_app \bxapp-[0-9]-[A-Z0-9]{8,14}-[0-9]{10,14}-[0-9a-f]{64}\b
slack_webhook https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{40,}
discord_bot \b[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}
discord_webhook https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/[0-9]{17,20}/[\w-]{60,}
telegram_bot \b[0-9]{8,10}:AA[\w-]{33}
teams_webhook https://[a-z0-9-]{1,40}\.webhook\.office\.com/webhookb2/[0-9a-f@/A-Za-z-]{100,}
twilio \bSK[0-9a-f]{32}\b
sendgrid \bSG\.[\w-]{22}\.[\w-]{43}
mailgun \bkey-[0-9a-f]{32}\b
mailchimp \b[0-9a-f]{32}-us[0-9]{1,2}\b
brevo \bxkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}\b
resend \bre_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}\b
postman \bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b
stripe \b[sr]k_(?:live|test)_[A-Za-z0-9]{24,}\b
stripe_webhook \bwhsec_[A-Za-z0-9+/]{32,}={0,2}
square \bsq0(?:atp|csp|idp)-[\w-]{22,43}
square \bEAAA[\w-]{60}
paypal_braintree \baccess_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}\b
shopify \bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b
flutterwave \bFLWSECK(?:_TEST)?-[0-9a-hA-H]{12,32}(?:-X)?\b
shippo \bshippo_(?:live|test)_[0-9a-f]{40}\b
easypost \bEZ[AT]K[A-Za-z0-9]{54}\b
notion \b(?:ntn_[A-Za-z0-9]{46}|secret_[A-Za-z0-9]{43})\b
linear \blin_(?:api|oauth)_[A-Za-z0-9]{40,}\b
figma \bfig[dour]h?_[\w-]{40,}
airtable \bpat[A-Za-z0-9]{14}\.[0-9a-f]{64}\b
asana \b[0-9]/[0-9]{16}:[0-9a-f]{32}\b
contentful \bCFPAT-[\w-]{43}
dropbox \bsl\.(?:u\.)?[\w-]{130,}
typeform \btfp_[\w.-]{40,}
readme \brdme_[a-z0-9]{70}\b
sentry \bsntry[su]_[\w+/=-]{64,}
new_relic \bNRAK-[A-Z0-9]{27}\b
grafana_cloud \bglc_[A-Za-z0-9+/]{40,}={0,2}
dynatrace \bdt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}\b
facebook \bEAA[A-Z][A-Za-z0-9]{80,}\b
""".strip().splitlines()
    )
)
"""Confirmed by their randomness alone."""

CHECKED_FORMATS: Final[dict[str, str]] = {
    "github": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "npm": r"\bnpm_[A-Za-z0-9]{36}\b",
    "grafana": r"\bglsa_[A-Za-z0-9]{32}_[0-9a-f]{8}\b",
    "age": r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b",
    "jwt": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
}
"""Confirmed by a checksum or a structure."""
