# fog-aws.
require "fog/aws"

endpoint = URI(ENV.fetch("BREVET_ENDPOINT"))
sts = lambda do |id, secret, token|
  Fog::AWS::STS.new(
    aws_access_key_id: id, aws_secret_access_key: secret, aws_session_token: token, region: ENV.fetch("AWS_REGION"),
    host: endpoint.host, port: endpoint.port, scheme: endpoint.scheme, path: "/"
  )
end

def attempt(action)
  result = yield
rescue StandardError => e
  result = "#{e.class}: #{e.message}"
ensure
  puts "#{action}\t#{result.to_s.split.join(" ")[0, 200]}"
end

puts "version\t#{Fog::AWS::VERSION}"
keys = [ENV.fetch("AWS_ACCESS_KEY_ID"), ENV.fetch("AWS_SECRET_ACCESS_KEY"), nil]
attempt("AssumeRole") do
  body = sts.call(*keys).assume_role("fog", ENV.fetch("BREVET_ROLE")).body
  body["AccessKeyId"].start_with?("ASIA") && body["Arn"].include?("assumed-role/") ? "ok" : body
end
attempt("GetSessionToken") { sts.call(*keys).get_session_token.body["AccessKeyId"].start_with?("ASIA") ? "ok" : "no session" }
