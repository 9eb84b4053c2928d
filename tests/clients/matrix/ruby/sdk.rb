# The AWS SDK for Ruby, version 3.
require "aws-sdk-core"
require "net/http"

ENDPOINT = ENV.fetch("BREVET_ENDPOINT")
KEYS = Aws::Credentials.new(ENV.fetch("AWS_ACCESS_KEY_ID"), ENV.fetch("AWS_SECRET_ACCESS_KEY"))

def sts(credentials = KEYS)
  Aws::STS::Client.new(endpoint: ENDPOINT, region: ENV.fetch("AWS_REGION"), credentials: credentials, retry_limit: 0)
end

def assume(role)
  sts.assume_role(role_arn: role, role_session_name: "ruby").credentials
end

def attempt(action)
  result = yield
rescue Aws::Errors::ServiceError => e
  result = e.code
rescue StandardError => e
  result = "#{e.class}: #{e.message}"
ensure
  puts "#{action}\t#{result.to_s.split.join(" ")[0, 200]}"
end

def arn(text)
  text.to_s.include?("arn:aws:") ? "ok" : text
end

puts "version\t#{Aws::CORE_GEM_VERSION}"
attempt("GetCallerIdentity") { arn(sts.get_caller_identity.arn) }
attempt("AssumeRole") do
  c = assume(ENV.fetch("BREVET_ROLE"))
  arn(sts(Aws::Credentials.new(c.access_key_id, c.secret_access_key, c.session_token)).get_caller_identity.arn)
end
attempt("AssumeRole, denied") { assume(ENV.fetch("BREVET_DENIED_ROLE")) }
attempt("AssumeRoleWithWebIdentity") do
  input = { role_arn: ENV.fetch("BREVET_WEB_ROLE"), role_session_name: "ruby", web_identity_token: ENV.fetch("BREVET_WEB_TOKEN") }
  arn(sts.assume_role_with_web_identity(input).assumed_role_user.arn)
end
attempt("GetCallerIdentity, presigned") do
  # Aws::STS::Presigner goes to AWS's own address whatever the client's is; the signer goes where it is told.
  keys = { access_key_id: KEYS.access_key_id, secret_access_key: KEYS.secret_access_key }
  signer = Aws::Sigv4::Signer.new(service: "sts", region: ENV.fetch("AWS_REGION"), **keys)
  url = "#{ENDPOINT}/?Action=GetCallerIdentity&Version=2011-06-15"
  arn(Net::HTTP.get(signer.presign_url(http_method: "GET", url: url, body_digest: OpenSSL::Digest::SHA256.hexdigest(""), expires_in: 60)))
end
