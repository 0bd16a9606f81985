-- Requests to /v1/predict for wrk; service_load.py runs it and says what the arguments are.
-- Arguments after "--": property, formulas of one request, bodies to take turns with.
local bodies, turn, token = {}, 0, os.getenv("CROSSPROP_API_KEY")

function init(args)
  local property, size, distinct = args[1], tonumber(args[2]), tonumber(args[3])
  local elements = {"Li", "Na", "K", "Mg", "Ca", "Ba", "Al", "Ga", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn",
                    "Zr", "Nb", "Mo", "W", "Si", "Ge", "N", "P", "O", "S", "Se", "F", "Cl"}
  math.randomseed(7)
  for i = 1, distinct do
    local formulas = {}
    for j = 1, size do
      local parts = {}
      for k = 1, math.random(2, 4) do
        parts[k] = elements[math.random(#elements)] .. math.random(9)
      end
      formulas[j] = '"' .. table.concat(parts) .. '"'
    end
    bodies[i] = '{"formulas": [' .. table.concat(formulas, ",") .. '], "properties": ["' .. property .. '"]}'
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  if token then wrk.headers["Authorization"] = "Bearer " .. token end
end

function request()
  turn = turn % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[turn])
end

function done(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
            + summary.errors.timeout
  io.write(string.format("RESULT %d %d %.3f %.3f %.3f %.3f %d\n", summary.requests, summary.duration,
           latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000,
           latency.max / 1000, bad))
end
